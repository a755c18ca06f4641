/** States of one direction; layer.ts says what leads from one to the other. */
export const IDLE = 0;
export const HEAD = 1;
export const BODY = 2;
export const LOST = 3;
/** No more bytes will come, or what comes is another protocol's. */
export const ENDED = 4;
export type State = typeof IDLE | typeof HEAD | typeof BODY | typeof LOST | typeof ENDED;
