import type { ReasonTable } from '../../config/define.ts';

export const httpReasons: readonly ReasonTable[] = [
  {
    key: 'connections.opaque',
    title: 'Connections that are passed over from some point on',
    reasons: {
      http_upgrade: { meaning: 'An HTTP upgrade to a protocol that is not read.' },
      http_connect: { meaning: 'The inside of an HTTP CONNECT tunnel.' },
    },
  },
];
