/**
 * A reporter of node:test that writes the totals of a run as one line of JSON, for test/run.mjs: the counts, and the files in which something
 * failed (`failedFiles`).
 */
export default async function* totals(source) {
  const failedFiles = new Set();
  for await (const { type, data } of source) {
    if (type === 'test:fail' && data.file !== undefined) failedFiles.add(data.file);
    // A summary without a file is that of the whole run.
    if (type === 'test:summary' && data.file === undefined)
      yield `${JSON.stringify({ ...data.counts, failedFiles: [...failedFiles] })}\n`;
  }
}
