// A process of clients that pull one image concurrently and retry what breaks. Prints each client's result as
// JSON.
import type { SampleImage } from '../samples/sample-image.ts';
import { type PatientPull, PatientPuller } from './patient-puller.ts';

export interface PatientClientsOptions {
  readonly url: string;
  readonly repository: string;
  readonly image: SampleImage;
  readonly clients: number;
}

const { url, repository, image, clients } = JSON.parse(process.argv[2] ?? '') as PatientClientsOptions;
const puller = new PatientPuller(url, repository, image);
const pulls: PatientPull[] = await Promise.all(Array.from({ length: clients }, () => puller.pull()));
process.stdout.write(`${JSON.stringify(pulls)}\n`);
