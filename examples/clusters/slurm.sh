#!/bin/bash
# One run on two nodes of four GPUs each, saved and queued again when its time is over:
#
#   sbatch examples/clusters/slurm.sh --config=unet_em:paper --data_root=stacks --workdir=runs/paper
#
# srun starts one process for each GPU, and these find each other. Each of them sees all GPUs of
# its node, and JAX takes the one of its number, so that GPUs are asked for by node, not by task.
#SBATCH --job-name=segjax
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=08:00:00
#SBATCH --signal=USR1@180   # 3 minutes before the end: the processes save, and leave
#SBATCH --requeue
#SBATCH --open-mode=append

interrupted=75

srun --kill-on-bad-exit=1 \
  segjax train --interrupted_exit_code=$interrupted "$@"
code=$?

if [ "$code" -eq "$interrupted" ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
