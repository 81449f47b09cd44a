"""What the accuracy rests on: reduction, tuning, landmarks, poor genes, pi."""
