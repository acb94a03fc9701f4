"""Networks: students to be trained, teachers to learn from, and the file format that joins the two.

`students` describes networks without importing torch; `teachers` holds trained ones; `export` writes and reads a
trained student. The networks themselves are in `convnet` (with the MLP) and `resnet`, and by name in `timm_zoo` and
`torchvision_zoo`.
"""
