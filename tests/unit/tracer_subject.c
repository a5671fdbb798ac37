/* A program that says that it has run, by its output and its status. */
#include <unistd.h>

int main(void) {
  if (write(1, "the program itself ran\n", 23) != 23) return 98;
  return 99;
}
