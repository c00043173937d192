"""From a trained model to frames: tasks as given and free frames, the flow sampler, chunked decoding."""
