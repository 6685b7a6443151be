import type { RegistryClient } from '../upstream/registry-client.ts';

/** A repository of an upstream. */
export interface Target {
  readonly client: RegistryClient;
  /** As the upstream calls it. */
  readonly repository: string;
}

/** One key for one repository of one upstream. */
export function targetKey(target: Target): string {
  return `${target.client.name}/${target.repository}`;
}
