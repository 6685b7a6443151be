import { defineConfig } from 'vitest/config';

// Vitest loads its configuration by the default export, the one exception to named exports.
export default defineConfig({
  test: {
    globalSetup: 'test/scan-output.ts',
    setupFiles: 'test/around-tests.ts',
    include: ['test/**/*.test.ts'],
    testTimeout: 30_000,
    hookTimeout: 120_000,
    pool: 'forks',
  },
});
