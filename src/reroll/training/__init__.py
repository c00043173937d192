"""From minutes to a trained run: engine, budget, loop, checkpoint, monitor."""
