/**
 * A reporter of node:test that writes the totals of a run as one line of JSON, for test/run.mjs: the counts, the files in which something
 * failed (`failedFiles`), and how long each file took in milliseconds (`durations`).
 */
export default async function* totals(source) {
  const failedFiles = new Set();
  const durations = {};
  for await (const { type, data } of source) {
    if (type === 'test:fail' && data.file !== undefined) failedFiles.add(data.file);
    if (type !== 'test:summary') continue;
    // A summary without a file is that of the whole run.
    if (data.file !== undefined) durations[data.file] = data.duration_ms;
    else yield `${JSON.stringify({ ...data.counts, failedFiles: [...failedFiles], durations })}\n`;
  }
}
