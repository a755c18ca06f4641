/** Query parameters whose values are credentials (semantic conventions of url.full, and the same of other clouds). */
export const defaultRedactedQueryKeys: readonly string[] = [
  'X-Amz-Signature',
  'X-Amz-Credential',
  'X-Amz-Security-Token',
  'AWSAccessKeyId',
  'Signature',
  'sig',
  'X-Goog-Signature',
];

/** Header fields that are credentials, in lower case: never captured, whatever the configuration says. */
export const forbiddenHeaders: ReadonlySet<string> = new Set([
  'authorization',
  'proxy-authorization',
  'cookie',
  'set-cookie',
]);
