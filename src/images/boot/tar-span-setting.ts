import { type BootProfiles, isLearned } from '../../boot/boot-profile.ts';
import type { TarSpanBytes } from '../../build/tar/tar-span-bytes.ts';
import type { Target } from '../../upstream/target.ts';
import type { IndexPolicies, TarSpanSizes } from '../lazy/index-policy.ts';

export interface TarSpanSettingDeps {
  /** `index.inflatedSpanBytes`. */
  readonly tarSpanBytes: number | 'auto';
  readonly policies: IndexPolicies;
  readonly profiles: BootProfiles;
}

/** Spans are finer if boot layers are wanted and the repository has not learned yet what starts read. */
export class TarSpanSetting implements TarSpanSizes {
  readonly #deps: TarSpanSettingDeps;

  constructor(deps: TarSpanSettingDeps) {
    this.#deps = deps;
  }

  async of(target: Target): Promise<TarSpanBytes> {
    const { tarSpanBytes, policies, profiles } = this.#deps;
    if (tarSpanBytes !== 'auto' || policies.of(target).bootLayer === 'off') return tarSpanBytes;
    return isLearned(await profiles.read(target)) ? 'auto' : 'fine';
  }
}
