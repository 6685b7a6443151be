import { isLoopback } from '../../core/is-loopback.ts';
import { tableAt, tablesOf, textOf } from '../doctor/node-files.ts';
import { SNAPSHOTTER_FILE } from '../doctor/check-snapshotter.ts';
import { type NodePlan, type NodeWish, restart } from './node-plan.ts';
import { TomlText } from './toml-text.ts';

/**
 * One span per period is fetched in the background: 30 ms instead of 500 finishes a layer of many spans in a
 * minute.
 */
const FETCH_PERIOD_MSEC = 30;

/** Plans the configuration of the soci-snapshotter: SOCI v2, the proxy as its mirror, shared content. */
export async function setUpSnapshotter(
  plan: NodePlan,
  { proxy, registries, isLazy }: NodeWish,
): Promise<void> {
  if (!isLazy) return;
  const isInsecure = proxy.protocol === 'http:' && !isLoopback(proxy.hostname);
  // Images by the proxy's name need an entry for plain HTTP only.
  const own = isInsecure ? [proxy.host] : [];
  const edit = (text: string): string => {
    const file = new TomlText(SNAPSHOTTER_FILE, text);
    const modes = tableAt(file.value, 'pull_modes');
    if (tableAt(modes, 'soci_v2')['enable'] !== true) file.set(['pull_modes', 'soci_v2'], { enable: true });
    if (tableAt(modes, 'parallel_pull_unpack')['enable'] === true)
      file.set(['pull_modes', 'parallel_pull_unpack'], { enable: false });
    if (tableAt(file.value, 'background_fetch')['fetch_period_msec'] === undefined)
      file.set(['background_fetch'], { fetch_period_msec: FETCH_PERIOD_MSEC });
    if (registries.length > 0) file.set(['content_store'], { type: 'containerd' });
    for (const registry of new Set([...registries, ...own])) {
      const array = ['resolver', 'host', registry, 'mirrors'];
      const address = registry === proxy.host ? proxy.origin : `${proxy.origin}/v2/${registry}`;
      const mirrors = tablesOf(tableAt(file.value, ...array.slice(0, -1))['mirrors']);
      const isThere = mirrors.some(({ host, insecure }) => {
        const known = textOf(host) ?? '';
        const leads = URL.canParse(known) && new URL(known).origin === proxy.origin;
        return leads && (insecure === true) === isInsecure;
      });
      if (!isThere) file.addItemFirst(array, { host: address, ...(isInsecure ? { insecure: true } : {}) });
    }
    return file.toString();
  };
  await plan.edit(SNAPSHOTTER_FILE, edit, restart('soci-snapshotter'));
}
