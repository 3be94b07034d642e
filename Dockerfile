# PlainVision on a computer without an NVIDIA GPU: about 1 GB instead of 6, because PyTorch's CPU edition comes without CUDA.
#     docker build -t plainvision .
#     docker run --rm -v "$PWD/work:/work" plainvision python train.py output=/work
# The results are in the folder work/ of the host. Photos and data: put them there, and name them as /work/...
FROM python:3.12-slim
WORKDIR /plainvision

# What changes rarely comes first: then an edited script does not fetch the packages again.
COPY requirements.txt .
RUN pip install --no-cache-dir torch torchvision --index-url https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir -r requirements.txt

COPY . .
CMD ["python", "train.py", "output=/work"]
