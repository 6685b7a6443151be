import { readFileSync } from 'node:fs';

/** The alerts of `config/prometheus` as an object of the Prometheus operator. */
export function printPrometheusRule(): string {
  const alerts = readFileSync(new URL('../config/prometheus/alerts.yaml', import.meta.url), 'utf8');
  const groups = alerts.slice(alerts.indexOf('groups:'));
  return `# generated from config/prometheus/alerts.yaml by npm run docs
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: spandrel
  labels:
    release: kube-prometheus-stack
spec:
${groups.replaceAll(/^(?=.)/gm, '  ')}`;
}
