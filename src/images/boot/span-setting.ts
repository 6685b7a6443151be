import { type BootProfiles, isLearned } from '../../boot/boot-profile.ts';
import type { TarSpanBytes } from '../../build/tar/tar-span-bytes.ts';
import type { Target } from '../../upstream/target.ts';
import type { IndexPolicies, TarSpanSizes } from '../lazy/index-policy.ts';

export interface SpanSettingDeps {
  /** `index.inflatedSpanBytes`. */
  readonly tarSpanBytes: number | 'auto';
  /** `index.learnSpanBytes`. */
  readonly learnSpanBytes: number | undefined;
  readonly policies: IndexPolicies;
  readonly profiles: BootProfiles;
}

/** Spans are finer if boot layers are wanted and the repository has not learned yet what starts read. */
export class SpanSetting implements TarSpanSizes {
  readonly #deps: SpanSettingDeps;

  constructor(deps: SpanSettingDeps) {
    this.#deps = deps;
  }

  async of(target: Target): Promise<TarSpanBytes> {
    const { tarSpanBytes } = this.#deps;
    return tarSpanBytes === 'auto' && (await this.#isLearning(target)) ? 'fine' : tarSpanBytes;
  }

  /**
   * Of a compressed layer; `undefined` if that need not be decided.
   * @param usual of its index
   */
  async ofLayer(target: Target, usual: number): Promise<number | undefined> {
    const { learnSpanBytes = usual } = this.#deps;
    if (!this.isForLayers(target)) return undefined;
    return (await this.#isLearning(target)) ? Math.min(learnSpanBytes, usual) : usual;
  }

  /** True if the span sizes of compressed layers are to be decided. */
  isForLayers(target: Target): boolean {
    const { learnSpanBytes, policies } = this.#deps;
    return learnSpanBytes !== undefined && policies.of(target).bootLayer !== 'off';
  }

  async #isLearning(target: Target): Promise<boolean> {
    const { policies, profiles } = this.#deps;
    return policies.of(target).bootLayer !== 'off' && !isLearned(await profiles.read(target));
  }
}
