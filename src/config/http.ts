/** Query parameters whose values are credentials: those of url.full's semantic conventions, the same of other clouds, and what is usual. */
export const defaultRedactedQueryKeys: readonly string[] = [
  'X-Amz-Signature',
  'X-Amz-Credential',
  'X-Amz-Security-Token',
  'AWSAccessKeyId',
  'Signature',
  'sig',
  'X-Goog-Signature',
  'access_token',
  'refresh_token',
  'id_token',
  'token',
  'client_secret',
  'api_key',
  'apikey',
  'password',
  'passwd',
];

/** Header fields that are credentials, in lower case: never captured, whatever the configuration says. */
export const forbiddenHeaders: ReadonlySet<string> = new Set([
  'authorization',
  'proxy-authorization',
  'cookie',
  'set-cookie',
]);
