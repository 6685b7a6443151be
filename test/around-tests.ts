import { getGlobalDispatcher } from 'undici';
import { afterAll, afterEach, beforeEach } from 'vitest';

import { cleanup } from './helpers/cleanup.ts';
import { collectOutput, TEST_MARK } from './helpers/collected-output.ts';
import { LeakCheck } from './helpers/faults/leak-check.ts';

const leaks = new LeakCheck();

// Hooks of a set-up file are the outermost: they run first before a test and last after it.
beforeEach(({ task }) => {
  // What is collected after this belongs to the test.
  collectOutput(`${TEST_MARK}${task.file.name} > ${task.name.replaceAll('\n', ' ')}\n`);
  // The file owns what tests open that run at the same time.
  if (task.concurrent !== true) cleanup.beginTest();
});
afterEach(() => cleanup.endTest());
afterAll(async () => {
  await cleanup.endFile();
  // A response of `fetch` whose body a test has not read keeps its connection until it is garbage.
  await getGlobalDispatcher().destroy();
  await leaks.expectNothingLeft();
});
