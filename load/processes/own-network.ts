import { tryProgramSync } from '../../test/helpers/programs.ts';

/**
 * Frame size of a VPC. With loopback's own 65536 bytes, every response of 64 KiB waits for a delayed
 * acknowledgement.
 */
const FRAME_BYTES = 9001;
/** Set in the environment of the run in the namespace. */
const MARK = 'LOAD_FRAME_BYTES';

/**
 * Runs this command again in a network namespace whose loopback has the frame size of a VPC, and exits with
 * its status. Returns if this already is that run, or if the user may not create namespaces (root may).
 */
export function enterOwnNetwork(): void {
  if (process.env[MARK] !== undefined) return;
  const unshare = ['--net', 'sh', '-c', `ip link set lo mtu ${FRAME_BYTES} up && exec "$@"`, 'sh'];
  if (tryProgramSync('unshare', [...unshare, 'true']).status !== 0) return;
  const { status } = tryProgramSync('unshare', [...unshare, process.execPath, ...process.argv.slice(1)], {
    stdio: 'inherit',
    environment: { [MARK]: String(FRAME_BYTES) },
  });
  process.exit(status ?? 1);
}

/** `loopback, frames of 9001 bytes`, or `loopback`. */
export function describeNetwork(): string {
  const frameBytes = process.env[MARK];
  return frameBytes === undefined ? 'loopback' : `loopback, frames of ${frameBytes} bytes`;
}
