import { pakoEngine } from '../../src/inflate/pako-engine.ts';
import { describeEngine } from './engine-conformance.ts';

await describeEngine(pakoEngine);
