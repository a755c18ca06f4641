/** Of an endpoint that the perspective makes no span of. */
export const NOT_WANTED = 'perspective';

/**
 * Why the endpoints of the exchange that was built last have no span: a reason of `spans.leftOut` or NOT_WANTED. It says nothing of an endpoint that
 * has one. One object, filled again for each exchange.
 */
export class Verdict {
  client = NOT_WANTED;
  server = NOT_WANTED;

  reset(): void {
    this.client = NOT_WANTED;
    this.server = NOT_WANTED;
  }
}
