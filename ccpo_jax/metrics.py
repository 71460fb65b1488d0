"""stand-in"""
import json, pathlib, sys
import numpy as np
def bootstrap_interval(x, confidence=0.95, seed=0, resamples=500):
    r = np.random.default_rng(seed); m = x[r.integers(0, len(x), (resamples, len(x)))].mean(1)
    return float(x.mean()), *map(float, np.quantile(m, [.025, .975]))
def diagnostics(o, c, a, t):
    return {"silent_groups": float(np.mean(np.all(np.asarray(a) == 0, -1)))}
def closing_table(a, b=None):
    return "\n".join(f"{k:40s} " + " -> ".join(f"{x[k][0]:.3f} [{x[k][1]:.3f}, {x[k][2]:.3f}]" for x in (a, b) if x) for k in a)
class MetricsWriter:
    def __init__(self, workdir, *, resume_step=0, total_steps, tensorboard=True, wandb=False):
        self.workdir = workdir; self.f = pathlib.Path(workdir, "metrics.jsonl").open("a"); self.total = total_steps
    def write(self, step, m):
        self.f.write(json.dumps({"step": step} | {k: float(v) for k, v in m.items()}) + "\n"); self.f.flush()
        print(f"{step}/{self.total} acc {m.get('team_accuracy', 0):.3f} eval {m.get('eval/team_accuracy', 0):.3f} tok/s {m.get('time/tokens_per_second', 0):.0f} step {m.get('time/step', 0):.2f}", file=sys.stderr)
    def lines(self):
        return [json.loads(l) for l in pathlib.Path(self.workdir, "metrics.jsonl").open()]
    def __enter__(self): return self
    def __exit__(self, *a): self.f.close()
