/** The protocols that Wirespan reads: one line each. What is not listed here leaves no trace in the program. */
export { grpc } from './grpc/module.ts';
export { http } from './http/module.ts';
export { mysql } from './mysql/module.ts';
export { postgresql } from './postgres/module.ts';
export { redis } from './redis/module.ts';
export { websocket } from './websocket/module.ts';
