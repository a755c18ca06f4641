/** A reporter of node:test that writes the totals of a run as one line of JSON, for test/run.mjs. */
export default async function* totals(source) {
  for await (const event of source) {
    // A summary without a file is that of the whole run.
    if (event.type === 'test:summary' && event.data.file === undefined) yield `${JSON.stringify(event.data.counts)}\n`;
  }
}
