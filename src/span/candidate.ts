/** What an exchange is judged by: filters and sampling read it. A driver has one, which its mapping fills for each exchange. */
export class Candidate {
  /** HTTP: the method as on the wire; gRPC: `package.Service/Method`; databases: the operation. Empty: not known. */
  method = '';
  /** The redacted path of a request; empty for databases. */
  path = '';
  /** db.namespace; empty for others. */
  database = '';
  /** The exchange is an error for its client, and perhaps for its server. */
  failed = false;
  /** NaN when the beginning was not seen: no condition on it is met. */
  durationUs = 0;
  endUs = 0;

  /** @param startUs 0: not seen */
  setTimes(startUs: number, endUs: number): void {
    this.endUs = endUs;
    this.durationUs = startUs === 0 ? Number.NaN : endUs - startUs;
  }
}
