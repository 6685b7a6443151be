import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

/** Time of the latest change of a file in `folder`, in milliseconds. */
export function newestChange(folder) {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) =>
    entry.isFile(),
  );
  return Math.max(...files.map((entry) => statSync(join(entry.parentPath, entry.name)).mtimeMs));
}
