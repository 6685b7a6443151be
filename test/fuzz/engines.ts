import type { Engine } from '../../src/inflate/engine.ts';
import { pakoEngine } from '../../src/inflate/pako-engine.ts';
import { wasmEngine } from '../../src/inflate/wasm-engine.ts';

/** All engines; fuzz cases use them in turn. */
export const ENGINES: readonly Engine[] = [pakoEngine, wasmEngine];
