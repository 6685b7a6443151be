import { SpandrelError } from '../core/errors.ts';
import type { Engine, EngineName } from './engine.ts';
import { compileKernel, InflateKernel } from './inflate-kernel.ts';
import { pakoEngine } from './pako-engine.ts';
import { wasmEngine } from './wasm-engine.ts';

const ENGINES: Readonly<Record<EngineName, Engine>> = { wasm: wasmEngine, pako: pakoEngine };

/** The engine that a process uses. */
export interface EngineChoice {
  readonly engine: EngineName;
  /** Why WebAssembly cannot be used, although it was asked for. */
  readonly wasmFault?: Error;
}

/** Only the name of an engine can go to another thread. */
export function engineNamed(name: EngineName): Engine {
  return ENGINES[name];
}

/**
 * The engine that was asked for, or pako where WebAssembly cannot be used: Node with `--jitless`, a processor
 * without SIMD, too little address space. Compiles the kernel to find out, which takes some milliseconds.
 * @throws SpandrelError INTERNAL, WORKER_FAILED as {@link compileKernel}
 */
export function chooseEngine(wanted: EngineName): EngineChoice {
  if (wanted === 'pako') return { engine: wanted };
  try {
    void new InflateKernel(compileKernel());
    return { engine: wanted };
  } catch (error) {
    if (!(error instanceof Error) || error instanceof SpandrelError) throw error;
    return { engine: 'pako', wasmFault: error };
  }
}
