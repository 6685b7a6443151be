import { wasmEngine } from '../../src/inflate/wasm-engine.ts';
import { describeEngine } from './engine-conformance.ts';

await describeEngine(wasmEngine);
