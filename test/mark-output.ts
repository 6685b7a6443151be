import { beforeEach } from 'vitest';

import { collectOutput, TEST_MARK } from './helpers/collected-output.ts';

// What is collected after this belongs to the test.
beforeEach(({ task }) =>
  collectOutput(`${TEST_MARK}${task.file.name} > ${task.name.replaceAll('\n', ' ')}\n`),
);
