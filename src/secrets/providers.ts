// The libraries whose TLS secrets are read: one line each. Their order means nothing.
export { openssl } from './openssl/provider.ts';
