"""Train on ML_INPUT_TRAIN, on as many processes as there are, and write model.pt (TorchScript) into ML_MODEL_DIR."""
import json
import os

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from model import Net, accuracy, read


def main():
    params = json.load(open(os.environ["ML_PARAMS"]))
    torch.manual_seed(int(os.environ["ML_SEED"]))
    torch.set_num_threads(1)  # processes are how this one uses more cores
    world = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    store = dist.HashStore() if world == 1 else None  # several meet at MASTER_ADDR
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
    print(f"process {rank} of {world}", flush=True)

    x, y = read(os.environ["ML_INPUT_TRAIN"])
    net = Net(x.shape[1], int(params["hidden"]))
    net.mean.copy_(x.mean(0))
    net.scale.copy_(x.std(0))
    ddp = DistributedDataParallel(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=float(params["learning_rate"]), momentum=0.9)
    first = resume(net, optimizer, rank)

    mine = slice(rank, None, world)  # every process learns from rows of its own
    epochs = int(params["epochs"])
    every = max(1, epochs // 20)
    for epoch in range(first, epochs + 1):
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(ddp(x[mine]), y[mine])
        loss.backward()
        optimizer.step()
        if rank == 0 and (epoch % every == 0 or epoch == epochs):
            report(epoch, epochs, loss.item())
            save(net, optimizer, epoch)
    print(f"process {rank} learnt from {len(x[mine])} of {len(x)} rows", flush=True)

    if rank == 0:
        torch.jit.script(net).save(os.path.join(os.environ["ML_MODEL_DIR"], "model.pt"))
        json.dump({"accuracy": accuracy(net, x, y), "loss": loss.item()}, open(os.environ["ML_METRICS"], "w"))
    dist.barrier()
    dist.destroy_process_group()


def report(epoch, of, loss):
    with open(os.environ["ML_PROGRESS"], "a") as out:
        out.write(json.dumps({"step": epoch, "of": of, "loss": round(loss, 4)}) + "\n")


def checkpoint():
    return os.path.join(os.environ["ML_CHECKPOINT_DIR"], "checkpoint.pt")


def save(net, optimizer, epoch):
    torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}, checkpoint() + ".new")
    os.replace(checkpoint() + ".new", checkpoint())


def resume(net, optimizer, rank):
    """The epoch to go on with. The first process has the checkpoint, and tells the others."""
    found = [torch.load(checkpoint()) if rank == 0 and os.path.exists(checkpoint()) else None]
    dist.broadcast_object_list(found)
    if found[0] is None:
        return 1
    net.load_state_dict(found[0]["net"])
    optimizer.load_state_dict(found[0]["optimizer"])
    print(f"process {rank} goes on after epoch {found[0]['epoch']}", flush=True)
    return found[0]["epoch"] + 1


if __name__ == "__main__":
    main()
