/** Why the data of a TLS connection could not be read, or not to its end: the closed set that this stage counts. */
export type UndecryptableReason =
  /** Its handshake was not seen. */
  | 'opened_before_agent'
  /** No secret came within the bytes and the time that a connection may wait. `explainMissingSecret` may say more. */
  | 'no_secret'
  /** The secret came, but after the connection was given up. */
  | 'secret_too_late'
  | 'unsupported_cipher_suite'
  | 'unsupported_version'
  | 'unsupported_compression'
  | 'record_authentication_failed'
  /** An authentic record without a content type, or a header that is none. */
  | 'record_malformed'
  | 'handshake_malformed'
  /** One end refused the handshake with an alert (RFC 8446 6.2): no common version, no trust in a certificate. */
  | 'handshake_refused'
  /** The connection ended before there was anything encrypted that could be read. */
  | 'closed_in_handshake'
  /** The capture ended in its handshake. */
  | 'shutdown'
  | 'gap_in_handshake'
  | 'gap_unrecoverable'
  /** All waiting connections together hold too much. */
  | 'pending_limit'
  /** A defect of ours: something threw that should not. */
  | 'internal_error';
