"""The probe under mixed precision with accumulation: its numbers are those of a plain loop.   python examples/mixed_precision.py"""

import torch
from sklearn.datasets import load_digits

import lossgauge as lg

features, labels = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
features = features.float() - features.float().mean(0)


def train(*, mixed: bool, micro_batches: int) -> lg.Probe:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 32))
    loss = torch.nn.CrossEntropyLoss()  # a loss of torch: the embeddings are the logits
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12, enabled=mixed)
    probe = lg.Probe(optimizer, loss=loss)
    for rows in torch.randperm(len(features))[:1024].split(128):
        for part in rows.chunk(micro_batches):
            with torch.autocast("cpu", dtype=torch.float16, enabled=mixed):
                z = probe.embeddings(model(features[part]), labels[part])
                value = loss(z, labels[part]) / micro_batches
            scaler.scale(value).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    return probe


columns = ("loss_value", "head_gradient", "clipped_head_gradient", "loss_factor")
print(f"{'':34}", *(f"{name:>22}" for name in columns))
for mixed, micro_batches in ((False, 1), (True, 4)):
    row = train(mixed=mixed, micro_batches=micro_batches).rows[-1]
    name = f"{'float16' if mixed else 'float32'}, {micro_batches} micro-batches, last step"
    print(f"{name:34}", *(f"{row[column]:22.4f}" for column in columns))
