import argparse
import json
import logging

print(len((argparse.__name__, json.__name__, logging.__name__)))
