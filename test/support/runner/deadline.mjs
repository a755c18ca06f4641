/**
 * Loaded before every test file by test/run.mjs: a file that does not end, because a test left something open, fails after its time.
 * The runner's own time limit ends the tests only, and would then wait for ever.
 */
const minutes = Number(process.env.WIRESPAN_TEST_FILE_MINUTES);
// The runner itself loads this too.
if (process.env.NODE_TEST_CONTEXT !== undefined && minutes > 0) {
  setTimeout(() => {
    process.stderr.write(
      `${process.argv[1]}: has not ended after ${minutes} minutes; open: ${process.getActiveResourcesInfo()}\n`,
    );
    process.exit(1);
  }, minutes * 60_000).unref();
}
