// Runs the checks and all tests, and lists the slowest files; the last line is "N passed, N failed".
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';

const SLOWEST = 10;
const scratch = mkdtempSync(join(tmpdir(), 'spandrel-test-'));
const report = join(scratch, 'report.json');
let passed = 0;
let failed = 0;

for (const guard of ['check:types', 'check:lint', 'check:format']) {
  const { status } = spawnSync('npm', ['run', '--silent', guard], { stdio: 'inherit' });
  console.log(`${status === 0 ? 'ok' : 'FAILED'}  npm run ${guard}`);
  if (status === 0) passed += 1;
  else failed += 1;
}

const args = [
  'run',
  '--reporter=default',
  '--reporter=json',
  `--outputFile.json=${report}`,
  ...process.argv.slice(2),
];
const { status } = spawnSync(join('node_modules', '.bin', 'vitest'), args, { stdio: 'inherit' });
try {
  const { numPassedTests, numFailedTests, numPendingTests, success, testResults } = JSON.parse(
    readFileSync(report, 'utf8'),
  );
  listSlowest(testResults);
  passed += numPassedTests;
  failed += numFailedTests + numPendingTests;
  if (numPendingTests > 0) console.log(`${numPendingTests} tests were skipped, which counts as failed`);
  // A file that cannot be loaded, or an unhandled error, fails the run although no test fails.
  if ((status !== 0 || !success) && numFailedTests + numPendingTests === 0) failed += 1;
} catch (error) {
  console.error(`no test report: ${error.message}`);
  failed += 1;
}
rmSync(scratch, { recursive: true, force: true });
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);

/** Seconds of the slowest files. Two files run at a time, so the sum exceeds the duration of the run. */
function listSlowest(files) {
  const costs = files.map(({ name, startTime, endTime }) => ({
    file: relative('.', name),
    seconds: (endTime - startTime) / 1000,
  }));
  console.log('slowest files:');
  for (const { file, seconds } of costs.toSorted((a, b) => b.seconds - a.seconds).slice(0, SLOWEST))
    console.log(`${seconds.toFixed(1).padStart(7)} s  ${file}`);
}
