#!/usr/bin/env bash
# One seed of the headline's methods on GSM8K, evaluated before and after training; after the tuning of ablations.sh.
#
#   DATA=FOLDER runs/downstream.sh        (make downstream is the same)
#
# DATA      folder with the files of the data sets and of the tasks; unset: the hub
# EXPORTS   folder of the trained models; default outputs/exports. What is there is not trained again.
# RUN       the Python that runs; default .venv/bin/python
set -euo pipefail
cd "$(dirname "$0")/.."
run=${RUN:-.venv/bin/python}
exports=${EXPORTS:-outputs/exports}
methods=$("$run" -c '
import yaml
study = yaml.safe_load(open("conf/study/headline.yaml"))
print(*(method.rpartition("/")[2] for method in study["axes"]["method"]))')

evaluate() {
  "$run" -m experiments.evaluate recorded_as=downstream 'parts=[downstream,reasoning_gym]' \
    ${DATA:+"downstream.folder=$DATA"} downstream.generation_batch_size=128 reasoning_gym.evaluation.batch_size=128 \
    about.model=smollm2_135m about.data=gsm8k "$@"
}
evaluate_trained() { # METHOD BASELINE
  evaluate path="$exports/headline/gsm8k-$1-seed0" name="$1-gsm8k" about.method="$1" before="$2-gsm8k"
}

for method in $methods; do
  if [ ! -d "$exports/headline/gsm8k-$method-seed0" ]; then
    "$run" -m experiments.train ${DATA:+"local_data=$DATA"} study=headline only="gsm8k-$method-seed0" \
      export="$exports" force=true
  fi
done

evaluate model=smollm2_135m name=untrained-gsm8k about.method=untrained
for method in $methods; do
  evaluate_trained "$method" untrained
done
for method in $methods; do
  if [[ $method == badam* ]]; then
    evaluate_trained "$method" lora
    evaluate_trained "$method" adamw
  fi
done
