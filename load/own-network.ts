import { tryProgramSync } from '../test/helpers/programs.ts';

/** Frames of a VPC. Loopback's own, 65536 bytes, make every answer of 64 KiB wait for a delayed acknowledgement. */
const FRAME_BYTES = 9001;
/** Set in the environment of the run that has the network. */
const MARK = 'LOAD_FRAME_BYTES';

/**
 * Run this command once more in a network namespace whose loopback has the frames of a VPC, and end with its status. Returns if this is
 * that run, or if this user may not make one (root may).
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
