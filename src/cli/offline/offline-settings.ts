import { parseConfig } from '../../config/parse-config.ts';
import { environmentName } from '../../config/config-keys.ts';
import type { LayerLimits } from '../../build/build-layer.ts';
import { escapeLines } from '../../core/escape-controls.ts';
import { chooseEngine } from '../../inflate/choose-engine.ts';
import type { EngineName } from '../../inflate/engine.ts';

const ENGINE_VARIABLE = environmentName('inflate.engine');

/** For `--help` of the commands that decompress. */
export const ENGINE_HELP = `${ENGINE_VARIABLE}=pako decompresses without WebAssembly, several times slower.`;

export interface OfflineSettings {
  readonly engine: EngineName;
  /** The defaults. */
  readonly limits: LayerLimits;
}

/**
 * What commands without a configuration file take from the environment: the engine. If WebAssembly cannot be
 * used, a line on stderr says so.
 * @throws SpandrelError CONFIG_INVALID
 */
export function readOfflineSettings(environment: NodeJS.ProcessEnv): OfflineSettings {
  const { [ENGINE_VARIABLE]: wanted } = environment;
  const { inflate, limits } = parseConfig({ yaml: '', environment: { [ENGINE_VARIABLE]: wanted } });
  const { engine, wasmFault } = chooseEngine(inflate.engine);
  if (wasmFault !== undefined)
    process.stderr.write(
      `spandrel: WebAssembly cannot be used, so ${engine} decompresses: ${escapeLines(wasmFault.message)}\n`,
    );
  return { engine, limits };
}
