import { type ConfigSection, whole } from '../../config/define.ts';

const grpcShape = {
  interim_span_s: whole(
    0,
    86_400,
    0,
    'A call that lasts this long gets an interim span, an INTERNAL child of its span, so that a stream of hours is seen before its end. In seconds; 0: none.',
  ),
};

export const grpcSection = { description: 'gRPC spans.', shape: grpcShape } satisfies ConfigSection;
