#!/usr/bin/env node
import { createRequire } from 'node:module';

import { endWithNpm } from './end-with-npm.ts';
import { endWithParent, runByOtherNode } from './run-by-other-node.ts';

/** The oldest Node version that the proxy supports. */
const OLDEST_NODE = 24;
/** Packages with a Node binary; npm installs the one of the platform. */
const NODE_PACKAGES = ['node', 'node-bin'];

endWithNpm();
const major = Number(process.versions.node.split('.')[0]);
if (major >= OLDEST_NODE) {
  endWithParent();
  // The reader of the output has closed the pipe (`| head`).
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    process.exit(0);
  });
  const { runCommand } = await import('./run-command.ts');
  process.exitCode = await runCommand(process.argv.slice(2));
} else {
  const runtime = findRuntime();
  if (runtime === undefined) {
    process.stderr.write(
      `spandrel needs Node ${OLDEST_NODE} or newer; this is ${process.version} and no packaged one is ` +
        `installed\n`,
    );
    process.exitCode = 1;
  } else {
    await runByOtherNode(runtime, import.meta.filename, process.argv.slice(2));
  }
}

/** The Node installed as a dependency, for systems with an older one. */
function findRuntime(): string | undefined {
  const require = createRequire(import.meta.url);
  for (const name of NODE_PACKAGES) {
    try {
      return require.resolve(`${name}-${process.platform}-${process.arch}/bin/node`);
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'MODULE_NOT_FOUND')) throw error;
    }
  }
  return undefined;
}
