import type { Engine } from './engine.ts';
import { wasmEngine } from './wasm-engine.ts';

/** The engine that layers are indexed and read with. */
export const defaultEngine: Engine = wasmEngine;
