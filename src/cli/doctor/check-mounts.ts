import { type Finding, Report } from './finding.ts';
import type { NodeFiles } from './node-files.ts';

/** Mounts of the whole node, seen from a container with its process table; else those of this process. */
const TABLES = ['/proc/1/mounts', '/proc/mounts'];

/** Counts the layers that are mounted by FUSE, and the containers that run from them. */
export async function checkMounts(files: NodeFiles): Promise<Finding[]> {
  const report = new Report('mounts');
  const text = await files.readFirst(TABLES);
  if (text === undefined) return [];
  const mounts = text.split('\n').map((line) => line.split(' '));
  // go-fuse, with the file system's name (soci-snapshotter `fs/fs.go`).
  const layers = mounts.filter(([device, , type]) => device === 'soci' && type === 'fuse.rawBridge');
  const folders = layers.map(([, folder = '']) => folder);
  const onSnapshotter = mounts.filter(
    ([, , type, options = '']) => type === 'overlay' && options.includes('/soci-snapshotter-grpc/'),
  );
  const isLazy = ([, , , options = '']: readonly string[]): boolean =>
    folders.some((folder) => options.includes(folder));
  const lazy = onSnapshotter.filter(isLazy).length;
  const counted =
    `layers mounted by FUSE: ${layers.length}; containers of the snapshotter that run from them: ` +
    `${lazy} of ${onSnapshotter.length}`;
  if (onSnapshotter.length > 0 && lazy === 0)
    report.note(
      `${counted}. All of them were pulled whole`,
      'run doctor with the name of such an image: it says why it is not lazy',
    );
  else if (layers.length > 0) report.ok(counted);
  else report.note('no container on this node runs from a lazily mounted layer now');
  return report.findings;
}
