import type { Engine } from '../../src/inflate/engine.ts';
import { pakoEngine } from '../../src/inflate/pako-engine.ts';
import { wasmEngine } from '../../src/inflate/wasm-engine.ts';

/** All engines; the fuzz cases go round them. */
export const ENGINES: readonly Engine[] = [pakoEngine, wasmEngine];
