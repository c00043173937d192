"""The four networks every recipe is made of: Encoder, Decoder, MotionPrior, Discriminator."""
