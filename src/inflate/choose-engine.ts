import { SpandrelError } from '../core/errors.ts';
import type { Engine, EngineName } from './engine.ts';
import { compileKernel, InflateKernel } from './inflate-kernel.ts';
import { pakoEngine } from './pako-engine.ts';
import { wasmEngine } from './wasm-engine.ts';

const ENGINES: Readonly<Record<EngineName, Engine>> = { wasm: wasmEngine, pako: pakoEngine };

/** The engine that this process uses. */
export interface EngineChoice {
  readonly engine: EngineName;
  /** Why WebAssembly is not used although it is configured. */
  readonly wasmFault?: Error;
}

/** The engine with this name. Threads are sent the name. */
export function engineNamed(name: EngineName): Engine {
  return ENGINES[name];
}

/**
 * The wanted engine, or pako if WebAssembly cannot be used: Node runs with `--jitless`, the processor has no
 * SIMD, or the address space is too small. Compiles the kernel to find out, which takes some milliseconds.
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
