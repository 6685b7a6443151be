import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';

import { defineConfig } from 'vitest/config';

// Vitest loads its configuration by the default export, the one exception to named exports.
export default defineConfig({
  test: {
    globalSetup: 'test/scan-output.ts',
    setupFiles: 'test/around-tests.ts',
    include: ['test/**/*.test.ts'],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    // A busy machine takes its time; what never comes fails anyway.
    expect: { poll: { timeout: 20_000 } },
    pool: 'forks',
    // Tests wait more than they work: three at a time also on two cores.
    maxWorkers: Math.max(3, availableParallelism() - 1),
    // Half of the work of a thread or program under test was to compile its modules.
    env: { NODE_COMPILE_CACHE: resolve(import.meta.dirname, 'node_modules/.cache/compiled') },
  },
});
