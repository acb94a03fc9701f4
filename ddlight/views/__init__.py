"""How a set's images reach the student: loaders give batches, `view` makes of a batch what the student sees.

The steps on the way (crop, colour, mix, dsa, patches, normalise, whiten) are pure functions of whole batches, on CPU
and CUDA tensors, and draw nothing. Their uniform numbers come as numpy arrays from `ddlight.core.randomness.generator`
(`view` draws them for a pass at once); functions such as `crop_boxes` or `cutmix_draw` turn them into parameters, which
are copied to the device without waiting; the `*_UNIFORMS` constants say how many numbers each takes. `pixels` holds
images that do not fit into memory in their files and decodes them in workers.
"""
