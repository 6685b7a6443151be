import { checkContainerd } from '../doctor/check-containerd.ts';
import { checkDocker } from '../doctor/check-docker.ts';
import { checkMirrors } from '../doctor/check-mirrors.ts';
import { checkPodman } from '../doctor/check-podman.ts';
import { checkSnapshotter } from '../doctor/check-snapshotter.ts';
import { readContainerdConfig } from '../doctor/containerd-config.ts';
import type { Finding } from '../doctor/finding.ts';
import { NodePlan, type NodeWish } from './node-plan.ts';
import { SavedFiles } from './saved-files.ts';
import { setUpContainerd } from './set-up-containerd.ts';
import { setUpDocker } from './set-up-docker.ts';
import { setUpK3s } from './set-up-k3s.ts';
import { setUpPodman } from './set-up-podman.ts';
import { setUpSnapshotter } from './set-up-snapshotter.ts';

/** Plans the files of a node that lead its clients to the proxy. Changes nothing. */
export async function planNode(root: string, wish: NodeWish): Promise<NodePlan> {
  const plan = new NodePlan(root, await new SavedFiles(root).own());
  await setUpContainerd(plan, wish);
  await setUpK3s(plan, wish);
  await setUpDocker(plan, wish);
  await setUpPodman(plan, wish);
  if (plan.clients.length > 0) await setUpSnapshotter(plan, wish);
  else
    plan.left.push(
      `no container client is installed below ${root}: neither containerd, k3s, RKE2, Docker, podman nor ` +
        'CRI-O',
    );
  return plan;
}

/** What `spandrel doctor` will find wrong in the files of the plan. */
export async function checkPlan(plan: NodePlan, { proxy, isLazy }: NodeWish): Promise<Finding[]> {
  const others = [...(await checkDocker(plan, proxy)), ...(await checkPodman(plan, proxy))];
  const found = await readContainerdConfig(plan);
  const nodes: Finding[] = [];
  if (found.kind === 'read') {
    const { findings, registries } = await checkMirrors(plan, found.config, proxy);
    nodes.push(...findings);
    if (isLazy) {
      if (!plan.isWithoutSnapshotter) nodes.push(...(await checkContainerd(plan, found)));
      nodes.push(...(await checkSnapshotter(plan, { proxy, mirrored: registries })).findings);
    }
  }
  return [...nodes, ...others].filter(({ status }) => status === 'problem');
}
