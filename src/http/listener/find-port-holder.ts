import { readdir, readFile, readlink } from 'node:fs/promises';

/** State of a socket that listens: Linux, `include/net/tcp_states.h`. */
const LISTENING = '0A';

/**
 * Id of a process that listens on a TCP port of this machine; `undefined` where that cannot be found out:
 * systems without `/proc`, and processes of other users.
 */
export async function findPortHolder(port: number): Promise<number | undefined> {
  const tables = await Promise.all(['tcp', 'tcp6'].map((name) => readText(`/proc/net/${name}`)));
  const wanted = new Set(tables.flatMap((table) => listeningSockets(table, port)));
  if (wanted.size === 0) return undefined;
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  for (const pid of pids) if (await hasSocket(pid, wanted)) return Number(pid);
  return undefined;
}

/** Links of the sockets that listen on `port`, as `/proc/<pid>/fd` shows them. */
function listeningSockets(table: string, port: number): string[] {
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  return table
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter(([, local = '', , state]) => local.endsWith(suffix) && state === LISTENING)
    .map((fields) => `socket:[${fields[9]}]`);
}

async function hasSocket(pid: string, wanted: ReadonlySet<string>): Promise<boolean> {
  const folder = `/proc/${pid}/fd`;
  // The process may have ended, or belong to another user.
  const names = await readdir(folder).catch(() => []);
  const links = await Promise.all(names.map((name) => readlink(`${folder}/${name}`).catch(() => '')));
  return links.some((link) => wanted.has(link));
}

function readText(path: string): Promise<string> {
  return readFile(path, 'utf8').catch(() => '');
}
