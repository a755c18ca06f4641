/** Status codes of gRPC (doc/statuscodes.md of github.com/grpc/grpc), and what stands for one where the server did not send any. */

export const STATUS_NAMES = [
  'OK',
  'CANCELLED',
  'UNKNOWN',
  'INVALID_ARGUMENT',
  'DEADLINE_EXCEEDED',
  'NOT_FOUND',
  'ALREADY_EXISTS',
  'PERMISSION_DENIED',
  'RESOURCE_EXHAUSTED',
  'FAILED_PRECONDITION',
  'ABORTED',
  'OUT_OF_RANGE',
  'UNIMPLEMENTED',
  'INTERNAL',
  'UNAVAILABLE',
  'DATA_LOSS',
  'UNAUTHENTICATED',
] as const;

export type StatusName = (typeof STATUS_NAMES)[number];

export function statusCode(name: StatusName): number {
  return STATUS_NAMES.indexOf(name);
}

/** @returns undefined when the status is not known */
export function statusName(code: number): StatusName | undefined {
  return STATUS_NAMES[code];
}

export const NO_STATUS = -1;
const UNKNOWN = statusCode('UNKNOWN');

/** @param text of grpc-status; what names no code counts as UNKNOWN, as clients have it */
export function parseStatus(text: string): number {
  if (!/^\d{1,10}$/.test(text)) return UNKNOWN;
  const code = Number(text);
  return code < STATUS_NAMES.length ? code : UNKNOWN;
}

/** doc/http-grpc-status-mapping.md: for responses without grpc-status. */
const OF_HTTP: Readonly<Record<number, StatusName>> = {
  400: 'INTERNAL',
  401: 'UNAUTHENTICATED',
  403: 'PERMISSION_DENIED',
  404: 'UNIMPLEMENTED',
  429: 'UNAVAILABLE',
  431: 'INTERNAL',
  502: 'UNAVAILABLE',
  503: 'UNAVAILABLE',
  504: 'UNAVAILABLE',
};

export function statusOfHttp(httpStatus: number): number {
  return statusCode(OF_HTTP[httpStatus] ?? 'UNKNOWN');
}

/** doc/PROTOCOL-HTTP2.md, "Errors". STREAM_CLOSED has none; HTTP_1_1_REQUIRED is not mentioned. */
const OF_RESET: Readonly<Record<string, StatusName>> = {
  NO_ERROR: 'INTERNAL',
  PROTOCOL_ERROR: 'INTERNAL',
  INTERNAL_ERROR: 'INTERNAL',
  FLOW_CONTROL_ERROR: 'INTERNAL',
  SETTINGS_TIMEOUT: 'INTERNAL',
  FRAME_SIZE_ERROR: 'INTERNAL',
  REFUSED_STREAM: 'UNAVAILABLE',
  CANCEL: 'CANCELLED',
  COMPRESSION_ERROR: 'INTERNAL',
  CONNECT_ERROR: 'INTERNAL',
  ENHANCE_YOUR_CALM: 'RESOURCE_EXHAUSTED',
  INADEQUATE_SECURITY: 'PERMISSION_DENIED',
};

/** @param error name of the HTTP/2 error code that ended the stream */
export function statusOfReset(error: string): number {
  const name = OF_RESET[error];
  return name === undefined ? NO_STATUS : statusCode(name);
}
