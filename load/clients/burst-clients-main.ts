// A process of clients that pull one image concurrently. Prints each client's result as JSON.
import type { SampleImage } from '../samples/sample-image.ts';
import { type SamplePull, SamplePuller } from '../samples/sample-pull.ts';
import type { Wire } from './wire.ts';

export interface BurstOptions {
  readonly url: string;
  readonly wire: Wire;
  readonly repository: string;
  readonly image: SampleImage;
  readonly clients: number;
}

const { url, wire, repository, image, clients } = JSON.parse(process.argv[2] ?? '') as BurstOptions;
const puller = new SamplePuller(url, repository, image, wire);
const pulls: SamplePull[] = await Promise.all(Array.from({ length: clients }, () => puller.pull()));
process.stdout.write(`${JSON.stringify(pulls)}\n`);
