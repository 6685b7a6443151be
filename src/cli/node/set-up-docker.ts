import { SpandrelError } from '../../core/errors.ts';
import { isLoopback } from '../../core/is-loopback.ts';
import { isDockerHub } from '../../upstream/credentials/is-docker-hub.ts';
import { DOCKER_FILE, parseDaemonConfig, textList } from '../doctor/check-docker.ts';
import type { NodePlan, NodeWish } from './node-plan.ts';

const RELOAD = { service: 'docker', command: ['systemctl', 'reload', 'docker'] };
const PROGRAMS = ['/usr/bin/dockerd', '/usr/local/bin/dockerd'];

/** Plans Docker's mirror, which applies to Docker Hub only. */
export async function setUpDocker(plan: NodePlan, { proxy, registries }: NodeWish): Promise<void> {
  const places = await Promise.all([DOCKER_FILE, ...PROGRAMS].map((path) => plan.exists(path)));
  if (!places.includes(true)) return;
  plan.clients.push('Docker');
  const edit = (text: string): string => {
    const config = text.trim() === '' ? {} : parseDaemonConfig(text);
    if (config === undefined)
      throw new SpandrelError('CONFIG_INVALID', `${DOCKER_FILE} is not valid JSON: correct it first`);
    const changed = { ...config };
    const add = (key: string, value: string): void => {
      const list = textList(changed[key]);
      if (!list.includes(value) && !list.includes(`${value}/`)) changed[key] = [value, ...list];
    };
    if (registries.some(isDockerHub)) add('registry-mirrors', proxy.origin);
    if (proxy.protocol === 'http:' && !isLoopback(proxy.hostname)) add('insecure-registries', proxy.host);
    if (JSON.stringify(changed) === JSON.stringify(config)) return text;
    const [, indent = '  '] = /^\{\r?\n([ \t]+)"/.exec(text.trim()) ?? [];
    return `${JSON.stringify(changed, undefined, indent)}\n`;
  };
  await plan.edit(DOCKER_FILE, edit, RELOAD);
}
